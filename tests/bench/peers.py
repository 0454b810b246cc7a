"""The processes that the benchmark starts: brokers of both kinds, MinIO, load generators."""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = ROOT / "tests/compat/.cache"
JARS = CACHE / "kafka"
STRANDLINE = ROOT / "target/release/strandline"
# Contestants whose names end like this run the binary that strandline is compared with.
BEFORE = "-before"
BINARIES = {}
LOAD = ROOT / "target/release/load"
TOOLS = "org.apache.kafka.tools."
TICKS = os.sysconf("SC_CLK_TCK")
NEVER = str(2**63 - 1)
given_ports = set()


def install():
    """Kafka's jars and MinIO, where they are not there yet."""
    if not (STRANDLINE.exists() and LOAD.exists()):
        raise SystemExit("no release build: cargo build --release --workspace")
    if not JARS.exists():
        subprocess.run(["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={JARS}"], cwd=ROOT / "tests/compat", check=True)
    if not (CACHE / "bin/minio").exists():
        subprocess.run(["go", "install", "github.com/minio/minio@latest"], env=os.environ | {"GOBIN": str(CACHE / "bin"), "CGO_ENABLED": "0"}, check=True)


def java(*args, heap="512m"):
    return ["java", f"-Xmx{heap}", f"-Xms{heap}", "-cp", f"{JARS}/*", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", *args]


def free_port():
    """A port that nobody listens on, each once, below those that the kernel gives to outgoing connections."""
    while True:
        port = random.randrange(12_000, 32_000)
        with socket.socket() as s:
            if port not in given_ports and s.connect_ex(("127.0.0.1", port)) != 0:
                given_ports.add(port)
                return port


def wait_until(what, condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {seconds} s in vain: {what}")
        time.sleep(0.05)


class Process:
    """A child process with a directory of its own."""

    def __init__(self, name):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"bench-{name}-"))
        self.process = None

    def spawn(self, command, environment=None):
        log = open(self.directory / "out.log", "a")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory, env=os.environ | (environment or {}), process_group=0)

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident(self):
        pages = int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def give_way(self):
        """From here on it only gets processor time that nobody else wants."""
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            os.sched_setscheduler(int(task), os.SCHED_IDLE, os.sched_param(0))

    def stop(self):
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(60)
        shutil.rmtree(self.directory, ignore_errors=True)


class Minio(Process):
    USER, PASSWORD = "strandline", "strandline-secret"

    def __init__(self):
        super().__init__("minio")
        self.endpoint = f"http://127.0.0.1:{free_port()}"
        address = self.endpoint.removeprefix("http://")
        self.spawn(
            [str(CACHE / "bin/minio"), "server", "--quiet", "--address", address, str(self.directory / "data")],
            {"MINIO_ROOT_USER": self.USER, "MINIO_ROOT_PASSWORD": self.PASSWORD},
        )
        wait_until("MinIO starts", self.is_live)

    def is_live(self):
        try:
            return urllib.request.urlopen(f"{self.endpoint}/minio/health/live", timeout=1).status == 200
        except OSError:
            return False


class Late(Process):
    """A store whose answers arrive so many seconds late, from `begin` on."""

    USER, PASSWORD = Minio.USER, Minio.PASSWORD

    def __init__(self, minio, seconds):
        super().__init__("late")
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        self.spawn(["python3", str(ROOT / "tests/bench/late.py"), str(port), minio.endpoint.rsplit(":", 1)[1], str(seconds)])
        wait_until("the proxy starts", lambda: self.is_there(port))

    def begin(self):
        self.process.send_signal(signal.SIGUSR1)

    @staticmethod
    def is_there(port):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0


class Broker(Process):
    """One broker on an empty directory: kind is `kafka`, `strandline` (Kafka's flush setting) or `flushed` (our default);
    the last two with `-before` are another binary.

    With `minio` the cold tier is on: in that MinIO, for Kafka in its test store, a local directory.
    """

    def __init__(self, kind, minio=None, tiered=False, properties=(), node=1, members=None):
        """`members`: client and controller port of every node of a cluster, this one among them; it is not started then."""
        super().__init__(kind)
        self.kind = kind
        self.node = node
        alone = members is None
        members = members or {node: (free_port(), free_port())}
        self.port, controller = members[node]
        self.http = f"127.0.0.1:{free_port()}"
        self.config = self.directory / "server.properties"
        voters = ",".join(f"{n}@127.0.0.1:{ports[1]}" for n, ports in members.items())
        replicas = min(3, len(members))
        lines = [
            "process.roles=broker,controller", f"node.id={node}", f"controller.quorum.voters={voters}",
            "controller.listener.names=CONTROLLER",
            f"listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            f"log.dirs={self.directory}/data", "num.partitions=6", f"offsets.topic.replication.factor={replicas}",
            f"default.replication.factor={replicas}", f"min.insync.replicas={(replicas + 1) // 2}",
            f"transaction.state.log.replication.factor={replicas}", "transaction.state.log.min.isr=1",
            "group.initial.rebalance.delay.ms=0",
            f"log.flush.interval.messages={'1' if kind.removesuffix(BEFORE) == 'flushed' else NEVER}",
        ]
        if tiered:
            lines += ["remote.log.storage.system.enable=true", "remote.log.manager.task.interval.ms=500", "log.retention.check.interval.ms=1000"]
        if kind == "kafka" and tiered:
            lines += [
                "remote.log.storage.manager.class.name=org.apache.kafka.server.log.remote.storage.LocalTieredStorage",
                "remote.log.storage.manager.impl.prefix=rsm.config.", f"rsm.config.dir={self.directory}/remote",
                "remote.log.metadata.manager.listener.name=PLAINTEXT", "rlmm.config.remote.log.metadata.topic.replication.factor=1",
            ]
        if kind != "kafka":
            lines.append(f"strandline.http.listener={self.http}")
            if tiered:
                lines += [
                    # A prefix belongs to one cluster, which its controllers' ports name here.
                    "strandline.remote.store.url=s3://bench/" + "-".join(str(ports[1]) for ports in members.values()), f"strandline.remote.store.endpoint={minio.endpoint}",
                    f"strandline.remote.store.access.key.id={minio.USER}", f"strandline.remote.store.secret.access.key={minio.PASSWORD}",
                    "strandline.remote.store.create.bucket=true",
                ]
        self.config.write_text("\n".join([*lines, *properties]) + "\n")
        if kind == "kafka":
            subprocess.run(
                java("kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", str(self.config)),
                check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
        if alone:
            self.first_ack = self.start("probe")

    def binary(self):
        return BINARIES[BEFORE] if self.kind.endswith(BEFORE) else STRANDLINE

    def launch(self):
        self.spawn(java("kafka.Kafka", str(self.config), heap="1g") if self.kind == "kafka" else [str(self.binary()), "server", str(self.config)])

    def start(self, topic):
        """Starts the process; returns the seconds to its first acknowledged record."""
        started = time.monotonic()
        self.launch()
        self.wait_for_acknowledgement(topic)
        return time.monotonic() - started

    def wait_for_acknowledgement(self, topic):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            probe = subprocess.run(
                ["kcat", "-b", self.bootstrap, "-P", "-t", topic, "-X", "acks=all", "-X", "message.timeout.ms=3000",
                 "-X", "reconnect.backoff.max.ms=20", "-X", "reconnect.backoff.ms=5", "-X", "topic.metadata.refresh.fast.interval.ms=10"],
                input=b"x\n", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            if probe.returncode == 0:
                return
        raise SystemExit(f"{self.kind} did not start; see {self.directory}/out.log")

    @property
    def bootstrap(self):
        return f"127.0.0.1:{self.port}"

    def create_topic(self, topic, partitions=None, replicas=None, **configs):
        """`replicas`: Kafka's form of an assignment, in place of a count of partitions."""
        shape = ["--replica-assignment", replicas] if replicas else ["--partitions", str(partitions)]
        options = [f for key, value in configs.items() for f in ("--config", f"{key.replace('_', '.')}={value}")]
        subprocess.run(
            java(TOOLS + "TopicCommand", "--bootstrap-server", self.bootstrap, "--create", "--topic", topic, *shape, *options),
            check=True, stdout=subprocess.DEVNULL,
        )

    def offsets(self, topic, time_spec):
        """Partition → offset."""
        out = subprocess.run(
            java(TOOLS + "GetOffsetShell", "--bootstrap-server", self.bootstrap, "--topic", topic, "--time", str(time_spec)),
            check=True, capture_output=True, text=True,
        ).stdout
        return {int(line.split(":")[1]): int(line.split(":")[2]) for line in out.splitlines() if line.count(":") == 2}

    def metrics(self, name):
        """Label text → value of one metric of ours."""
        page = urllib.request.urlopen(f"http://{self.http}/metrics", timeout=10).read().decode()
        return {m[1]: float(m[2]) for m in re.finditer(rf"^{name}(?:{{(.*)}})? (\S+)$", page, re.M)}

    def perf_produce(self, topic, records):
        """Kafka's own producer; MB/s (2^20) as it reports them."""
        out = subprocess.run(
            java(TOOLS + "ProducerPerformance", "--topic", topic, "--num-records", str(records), "--record-size", "1024", "--throughput", "-1",
                 "--producer-props", f"bootstrap.servers={self.bootstrap}", "acks=all", "batch.size=131072", "linger.ms=5"),
            check=True, capture_output=True, text=True,
        ).stdout.strip().splitlines()[-1]
        return float(re.search(r"\(([\d.]+) MB/sec\)", out).group(1))

    def perf_consume(self, topic, records):
        subprocess.run(
            java(TOOLS + "ConsumerPerformance", "--bootstrap-server", self.bootstrap, "--topic", topic, "--num-records", str(records), "--timeout", "60000"),
            check=True, capture_output=True, text=True,
        )

    def load(self, mode, topic, *flags):
        return json.loads(subprocess.run(self.load_command(mode, topic, *flags), check=True, capture_output=True, text=True).stdout)

    def load_command(self, mode, topic, *flags):
        return [str(LOAD), mode, self.bootstrap, topic, *map(str, flags)]


class Cluster:
    """Three brokers of one kind, each a controller too. Topics have three replicas and a minimum of two in sync."""

    def __init__(self, kind, minio=None, tiered=False):
        members = {node: (free_port(), free_port()) for node in (1, 2, 3)}
        self.brokers = [Broker(kind, minio, tiered, node=node, members=members) for node in members]
        for broker in self.brokers:
            broker.launch()
        self.first.wait_for_acknowledgement("probe")
        self.wait_until_in_sync()

    @property
    def first(self):
        return self.brokers[0]

    def cpu(self):
        return sum(broker.cpu() for broker in self.brokers)

    def resident(self):
        return max(broker.resident() for broker in self.brokers)

    def reassign(self, topic, partition, replicas):
        """Returns when the partition is where it should be."""
        plan = self.first.directory / "plan.json"
        plan.write_text(json.dumps({"version": 1, "partitions": [{"topic": topic, "partition": partition, "replicas": replicas}]}))
        tool = java(TOOLS + "reassign.ReassignPartitionsCommand", "--bootstrap-server", self.first.bootstrap, "--reassignment-json-file", str(plan))
        subprocess.run([*tool, "--execute"], check=True, stdout=subprocess.DEVNULL)

        def arrived():
            listed = subprocess.run(["kcat", "-b", self.first.bootstrap, "-L", "-J", "-t", topic], check=True, capture_output=True, text=True)
            found = json.loads(listed.stdout)["topics"][0]["partitions"][partition]
            return {r["id"] for r in found["replicas"]} == {r["id"] for r in found["isrs"]} == set(replicas)

        wait_until("the reassignment ends", arrived, 300)

    def lagging(self):
        """Partitions that a broker which answers counts as having fewer replicas in sync than they should."""
        for broker in self.brokers:
            listed = subprocess.run(["kcat", "-b", broker.bootstrap, "-L", "-J", "-m", "5"], capture_output=True, text=True)
            if listed.returncode == 0:
                topics = json.loads(listed.stdout)["topics"]
                partitions = [p for t in topics for p in t["partitions"]]
                return len([p for p in partitions if len(p["isrs"]) < len(p["replicas"]) or p["leader"] < 0]), len(partitions)
        return None, 0

    def wait_until_in_sync(self, partitions=1, seconds=120):
        wait_until("every replica is in sync", lambda: (lambda lag, known: lag == 0 and known >= partitions)(*self.lagging()), seconds)

    def stop(self):
        # Together: none of them waits for others to take over what it leads.
        for broker in self.brokers:
            os.killpg(broker.process.pid, signal.SIGTERM)
        for broker in self.brokers:
            broker.process.wait(60)
            shutil.rmtree(broker.directory, ignore_errors=True)
