"""The differences that are meant, each with the words under which docs/DIFFERENCES.md gives its reason."""

from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[3] / "docs/DIFFERENCES.md"

# Settings of the process under test, not of the product.
OF_THE_RUN = {
    "listeners", "advertised.listeners", "log.dir", "log.dirs", "controller.quorum.voters", "log.flush.interval.messages",
    "transaction.state.log.min.isr", "transaction.state.log.replication.factor", "remote.log.storage.system.enable",
    "remote.log.manager.task.interval.ms", "log.retention.check.interval.ms", "broker.id", "node.id",
}


def configs(api, version, path, ours, kafkas, request, answers):
    if api not in ("DescribeConfigs", "CreateTopics") or ".Configs." not in path:
        return None
    name = path.split(".Configs.", 1)[1]
    if name.startswith("strandline.") and kafkas == "<absent>":
        return "Our own `strandline.` keys"
    if name.startswith(("flush.messages", "log.flush.interval.messages")):
        return "`log.flush.interval.messages`"
    if any(name.startswith(key + ".") for key in OF_THE_RUN):
        return "a setting of the run"
    return None


def versions(api, version, path, ours, kafkas, request, answers):
    if api != "ApiVersions":
        return None
    if "Features" in path or path == ".ZkMigrationReady":
        return "one version of each; `kafka-features` shows and refuses"
    if path.startswith(".ApiKeys.") and ours == "<absent>":
        return "does not advertise absent APIs"
    return None


RULES = [configs, versions]
# Differences of two runs rather than of two brokers.
OF_RUNS = {"a setting of the run"}


def reason(api, version, path, ours, kafkas, request, answers):
    """The words of docs/DIFFERENCES.md for a difference; `None` if it is not meant."""
    for rule in RULES:
        words = rule(api, version, path, ours, kafkas, request, answers)
        if words:
            return words
    return None


def not_documented(named):
    """Reasons whose words are not in docs/DIFFERENCES.md."""
    text = " ".join(DOCUMENT.read_text().split())
    return [words for words in named if words not in OF_RUNS and words not in text]
