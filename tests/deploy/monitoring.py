"""Asks a running Prometheus what the dashboards and alerts ask it.

Usage: monitoring.py URL queries DASHBOARD…   every query of the dashboards is answered, with something in it
       monitoring.py URL quiet ALERTS         so many alerts are known, all evaluate, and none is pending or firing
       monitoring.py URL raised ALERT…        these are pending or firing

Asks again for a minute and a half: scrapes and evaluations are fifteen seconds apart.
"""

import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

SECONDS = 90
# Only of what has gone wrong, or waits.
MAY_BE_EMPTY = {"Errors in answers", "Requests that failed", "Lag by partition"}


def get(url, path, **parameters):
    query = urllib.parse.urlencode(parameters)
    try:
        with urllib.request.urlopen(f"{url}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{parameters}: {error.read().decode()}")


def unanswered(url, dashboards):
    values = {"$__rate_interval": "1m", "$topic": ".*", "$group": ".*", "$storage": "0.023", "$puts": "0.005", "$gets": "0.0004"}
    brokers = get(url, "label/instance/values", **{"match[]": 'up{job="strandline"}'})
    if not brokers:
        return ["no broker has been scraped"]
    values["$broker"] = brokers[0]
    empty = []
    for path in dashboards:
        with open(path) as file:
            dashboard = json.load(file)
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                query = target["expr"]
                for name, value in values.items():
                    query = query.replace(name, value)
                result = get(url, "query", query=query)["result"]
                if not result and panel["title"] not in MAY_BE_EMPTY:
                    empty.append(f"{dashboard['title']}, {panel['title']}: {query}")
    return empty


def alerts(url):
    groups = get(url, "rules")["groups"]
    return [rule for group in groups for rule in group["rules"]]


def loud(url, number):
    rules = alerts(url)
    found = [f"{rule['name']} is {rule['state']}, {rule['health']}" for rule in rules if (rule["state"], rule["health"]) != ("inactive", "ok")]
    return found + ([] if len(rules) == int(number) else [f"{len(rules)} alerts are known"])


def not_raised(url, names):
    raised = {rule["name"] for rule in alerts(url) if rule["state"] != "inactive"}
    return [f"{name} is not raised" for name in names if name not in raised]


def problems(check):
    try:
        return check()
    except OSError as error:
        # Prometheus is not up yet. Requests that it refuses are errors: see get.
        return [str(error)]


def main(url, what, *arguments):
    checks = {
        "queries": lambda: unanswered(url, arguments),
        "quiet": lambda: loud(url, *arguments),
        "raised": lambda: not_raised(url, arguments),
    }
    deadline = time.monotonic() + SECONDS
    while found := problems(checks[what]):
        if time.monotonic() > deadline:
            sys.exit("\n".join(found))
        time.sleep(1)


main(*sys.argv[1:])
