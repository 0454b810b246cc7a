//! Kafka's keys that are accepted here and change nothing, with the reason. `docs/CONFIG.md` is made from this.

/// Each entry: a key, or the common beginning of several keys (it ends in a dot), and the reason why it has no effect.
const REASONS: &[(&str, &str)] = &[
    ("add.partitions.to.txn.", TRANSACTIONS),
    ("transaction.", TRANSACTIONS),
    ("transactional.", TRANSACTIONS),
    ("share.", SHARE_GROUPS),
    ("group.share.", SHARE_GROUPS),
    ("group.streams.", STREAMS_GROUPS),
    ("group.consumer.", CONSUMER_GROUPS),
    (
        "group.coordinator.",
        "coordinators run where their partition's log is owned",
    ),
    ("sasl.", SECURITY),
    ("ssl.", SECURITY),
    ("delegation.token.", SECURITY),
    ("security.", SECURITY),
    ("principal.builder.class", SECURITY),
    ("authorizer.class.name", SECURITY),
    ("connection.failed.authentication.delay.ms", SECURITY),
    ("connections.max.reauth.ms", SECURITY),
    ("early.start.listeners", SECURITY),
    ("log.cleaner.", "compaction is not there yet"),
    ("log.preallocate", "segments grow as they are written"),
    (
        "log.dir.failure.timeout.ms",
        "a failed directory is reported at once",
    ),
    (
        "log.flush.offset.checkpoint.interval.ms",
        "checkpoints are written every five seconds",
    ),
    (
        "log.flush.start.offset.checkpoint.interval.ms",
        "checkpoints are written every five seconds",
    ),
    ("log.initial.task.delay.ms", "tasks begin with the process"),
    (
        "log.segment.delete.delay.ms",
        "files are deleted at once; readers keep what they have open",
    ),
    (
        "num.replica.fetchers",
        "one fetcher for each leader's broker: fetch sessions make a round as cheap as what has moved",
    ),
    (
        "num.replica.alter.log.dirs.threads",
        "moves share the blocking threads",
    ),
    ("background.threads", "there is no such pool"),
    (
        "queued.max.requests",
        "each connection has a short queue of its own; queued.max.request.bytes limits all of them",
    ),
    ("fetch.purgatory.", PURGATORY),
    ("producer.purgatory.", PURGATORY),
    ("delete.records.purgatory.", PURGATORY),
    (
        "max.request.partition.size.limit",
        "the client's own limit counts, up to two thousand",
    ),
    ("max.connection.creation.rate", "not limited"),
    (
        "replica.fetch.backoff.ms",
        "a leader that is gone is asked again after 20 ms",
    ),
    (
        "replica.high.watermark.checkpoint.interval.ms",
        "checkpoints are written every five seconds",
    ),
    (
        "replica.socket.",
        "links between brokers have fixed time-outs",
    ),
    (
        "request.timeout.ms",
        "links between brokers have fixed time-outs",
    ),
    (
        "socket.connection.setup.",
        "links between brokers have fixed time-outs",
    ),
    ("replication.quota.", "throttles work by the second"),
    (
        "alter.log.dirs.replication.quota.",
        "throttles work by the second",
    ),
    ("client.quota.callback.class", PLUGINS),
    ("alter.config.policy.class.name", PLUGINS),
    ("create.topic.policy.class.name", PLUGINS),
    ("config.providers", PLUGINS),
    ("kafka.metrics.", METRICS),
    ("metric.reporters", METRICS),
    ("metrics.", METRICS),
    (
        "telemetry.max.bytes",
        "clients' telemetry (KIP-714) is not taken yet",
    ),
    ("controller.performance.", METRICS),
    (
        "controller.socket.timeout.ms",
        "links of the quorum have fixed time-outs",
    ),
    (
        "controlled.shutdown.enable",
        "a broker that stops always hands over what it leads",
    ),
    ("cordoned.log.dirs", "not there yet"),
    (
        "initial.broker.registration.timeout.ms",
        "a broker waits for its controllers as long as it takes",
    ),
    ("internal.metadata.", RAFT),
    ("metadata.log.max.", RAFT),
    ("metadata.log.segment.", RAFT),
    ("metadata.max.", RAFT),
    (
        "offsets.load.buffer.size",
        "the offsets topic is read as any log",
    ),
    (
        "unclean.leader.election.interval.ms",
        "elections happen when something changes, not by the clock",
    ),
    ("unstable.", "nothing unstable is offered"),
    (
        "server.max.startup.time.ms",
        "a start takes as long as it takes",
    ),
    (
        "log.flush.scheduler.interval.ms",
        "overdue flushes are looked for every second",
    ),
    ("compression.gzip.level", LEVELS),
    ("compression.lz4.level", LEVELS),
    ("compression.zstd.level", LEVELS),
    (
        "log.roll.jitter.",
        "segments roll by their own first records, so they do not roll at once",
    ),
    ("controller.quorum.append.linger.ms", RAFT),
    (
        "controller.quorum.auto.join.enable",
        "a controller is added by kafka-metadata-quorum",
    ),
    ("controller.quorum.election.backoff.max.ms", RAFT),
    ("controller.quorum.election.timeout.ms", RAFT),
    ("controller.quorum.fetch.max.bytes", RAFT),
    ("controller.quorum.fetch.snapshot.max.bytes", RAFT),
    ("controller.quorum.fetch.timeout.ms", RAFT),
    ("controller.quorum.request.timeout.ms", RAFT),
    ("controller.quorum.retry.backoff.ms", RAFT),
    (
        "offsets.commit.timeout.ms",
        "a commit is answered when it is committed, or after the client's own time-out",
    ),
    (
        "offsets.topic.compression.codec",
        "the offsets topic is not compressed",
    ),
    (
        "producer.id.expiration.check.interval.ms",
        "looked at with retention",
    ),
    (
        "follower.fetch.last.tiered.offset.enable",
        "an empty replica always begins behind what is in the cold tier",
    ),
    (
        "remote.list.offsets.request.timeout.ms",
        "remote.fetch.max.wait.ms counts",
    ),
    (
        "remote.log.index.file.cache.",
        "indexes are read with their segment's side object and cached as chunks",
    ),
    (
        "remote.log.manager.copy.quota.",
        "copies are limited by the second",
    ),
    (
        "remote.log.manager.fetch.quota.",
        "cold reads are limited by the second",
    ),
    (
        "remote.log.manager.expiration.thread.pool.size",
        COLD_THREADS,
    ),
    ("remote.log.manager.follower.thread.pool.size", COLD_THREADS),
    ("remote.log.manager.thread.pool.size", COLD_THREADS),
    ("remote.log.reader.", COLD_THREADS),
    ("remote.log.manager.task.retry.jitter", "a fifth, always"),
    ("remote.log.metadata.", BUILT_IN),
    ("remote.log.storage.manager.", BUILT_IN),
];
const BUILT_IN: &str = "the cold tier is built in (strandline.remote.*)";
const TRANSACTIONS: &str = "transactions are not there yet";
const SHARE_GROUPS: &str = "share groups are not there yet";
const STREAMS_GROUPS: &str = "streams groups are not there yet";
const CONSUMER_GROUPS: &str = "groups of the newer protocol (KIP-848) are not there yet";
const SECURITY: &str = "TLS, SASL and ACLs are not there yet";
const PURGATORY: &str = "there is no purgatory: what waits is told of the event it waits for";
const LEVELS: &str = "where a topic recompresses, its codec's usual level is taken";
const PLUGINS: &str = "there are no plug-ins in Java here";
const METRICS: &str = "metrics are served for Prometheus (strandline.http.listener)";
const RAFT: &str = "the quorum's Raft has times and sizes of its own";
const COLD_THREADS: &str = "the cold tier has threads of its own, as many as processors";

/// Why a broker's key has no effect; `None` where it has one.
pub fn reason_without_effect(key: &str) -> Option<&'static str> {
    let meant = |named: &str| {
        if named.ends_with('.') {
            key.starts_with(named)
        } else {
            key == named
        }
    };
    let mut all = REASONS.iter();
    all.find(|(named, _)| meant(named))
        .map(|(_, reason)| *reason)
}
