"""Readers of server-sent events, unmodified, against the server of the first argument."""

import importlib.metadata
import json
import sys

import httpx
import httpx_sse
import requests
import sseclient
from start import start

base = sys.argv[1]
KEY = {"X-API-Key": sys.argv[2]}
GOOD = ["accepted", "started", "succeeded"]


def with_httpx(path, last=None):
    headers = KEY | ({"Last-Event-ID": last} if last else {})
    with httpx.Client(timeout=60) as client, httpx_sse.connect_sse(client, "GET", base + path, headers=headers) as source:
        source.response.raise_for_status()
        # Comments, and events that say how far the stream is, come as events without data.
        yield from ((one.id, one.event, json.loads(one.data)) for one in source.iter_sse() if one.data)


def with_sseclient(path, last=None):
    headers = KEY | {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
    with requests.get(base + path, headers=headers, stream=True, timeout=60) as answer:
        answer.raise_for_status()
        yield from ((one.id, one.event, json.loads(one.data)) for one in sseclient.SSEClient(answer).events())


for read in (with_httpx, with_sseclient):
    run, _ = start(base, "good")
    path = f"/v1/workRequests/{run['id']}/stream"
    # It ends by itself.
    told = list(read(path))
    assert [kind for _, kind, _ in told] == GOOD and [id for id, _, _ in told] == ["1", "2", "3"], told
    assert all(data["workRequestId"] == run["id"] for _, _, data in told), told
    assert list(read(path, last="1")) == told[1:]
    assert requests.get(base + path, headers=KEY | {"Last-Event-ID": "3"}, timeout=60).status_code == 204

    path = "/v1/workRequests:stream?job=bad"
    begun = start(base, "bad")[0]["id"]
    with requests.get(base + path, headers=KEY, stream=True, timeout=60) as answer:
        place = next(line for line in answer.iter_lines() if line.startswith(b"id: "))[4:].decode()
    ids = {begun, start(base, "bad")[0]["id"], start(base, "bad")[0]["id"]} - {begun}
    told = []
    for event in read(path, last=place):
        told.append(event)
        ended = {data["workRequestId"] for _, _, data in told if data["status"] == "FAILED"}
        if ids <= ended:
            break
    assert all(data["job"] == "bad" for _, _, data in told), told
    numbers = [int(id) for id, _, _ in told]
    assert numbers == sorted(set(numbers)), numbers
    again = []
    for event in read(path, last=told[1][0]):
        again.append(event)
        if len(again) == len(told) - 2:
            break
    assert again == told[2:], (again, told)
    for last, status in (("made-up", 400), ("999999999999", 410)):
        assert requests.get(base + path, headers=KEY | {"Last-Event-ID": last}, timeout=60).status_code == status

versions = [f"{name} {importlib.metadata.version(name)}" for name in ("httpx-sse", "sseclient-py")]
print(f"{', '.join(versions)}: heard runs to their ends, and went on from where they were")
