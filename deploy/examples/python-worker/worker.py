#!/usr/bin/env python3
"""A worker of Reveille in Python: the standard library and pika.

It takes triggers from the job's queue, claims each at the API, runs `work` in a thread, gives signs of life, and tells
by events how it goes and how it ended. Replace `work` by what you have to do. Settings are environment variables.
"""
import http.client
import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
import uuid
from datetime import datetime, timezone

import pika

API = os.environ.get("REVEILLE_URL", "http://127.0.0.1:8080")
KEY = os.environ.get("REVEILLE_KEY", "")
BROKER = os.environ.get("REVEILLE_BROKER_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")
QUEUE = os.environ.get("QUEUE", "thumbnails")
NAME = os.environ.get("WORKER_NAME", socket.gethostname())
SLOTS = int(os.environ.get("SLOTS", "2"))
GRACE = float(os.environ.get("GRACE", "20"))

draining = threading.Event()  # SIGTERM has come: nothing new is begun
hurry = threading.Event()  # its grace is over: what still runs is handed back


class Stop(Exception):
    """The run is to end now: someone canceled it, its lease is lost or may be, or this worker stops."""


def work(run, tell, check):
    """The business logic: some steps. `check` raises Stop when it is time to; what is returned is the run's output."""
    steps = run["input"].get("steps", 3)
    for step in range(1, steps + 1):
        check()
        time.sleep(run["input"].get("pause", 0.5))
        tell("progress", {"percent": 100 * step / steps, "message": f"step {step}"})
        tell("log", {"seq": step, "text": f"step {step} of {steps}, by {NAME}"})
    if run["input"].get("fail"):
        raise ValueError("told to fail")
    return {"steps": steps, "by": NAME}


def post(path, body, namespace, content_type="application/json", check=lambda: None):
    """One request: the status and the answer. Repeated until the API answers, or `check` raises; 5xx and 429 are no answer."""
    headers = {"Content-Type": content_type, "X-Reveille-Namespace": namespace}
    if KEY:
        headers["X-API-Key"] = KEY
    while True:
        check()
        request = urllib.request.Request(API + path, json.dumps(body).encode(), headers)
        try:
            try:
                answered = urllib.request.urlopen(request, timeout=10)
            except urllib.error.HTTPError as error:
                answered = error
            with answered:
                if answered.status < 500 and answered.status != 429:
                    return answered.status, json.load(answered)
        except (OSError, ValueError, http.client.HTTPException):
            pass  # no answer, or half of one
        time.sleep(1)


class Run(threading.Thread):
    """One run, from its claim to its end."""

    def __init__(self, claimed, token, asked):
        super().__init__(name=claimed["id"])
        self.claimed, self.token = claimed, token
        self.hold(asked)
        self.path = f"/v1/workRequests/{claimed['id']}"
        self.canceled, self.lost, self.done = threading.Event(), threading.Event(), threading.Event()

    def hold(self, asked):
        """The lease lasts from when we asked for it, if not longer. Its last fifth is for stopping in good time: who is
        cut off does not hear that another worker has the run."""
        self.until = asked + 0.8 * self.claimed["leaseSeconds"]

    def tell(self, kind, data=None):
        """Sends an event. Its id is made once, so that it counts once however often it is sent."""
        event = {"specversion": "1.0", "id": str(uuid.uuid4()), "source": f"/workers/{NAME}",
                 "type": f"io.reveille.run.{kind}", "time": datetime.now(timezone.utc).isoformat(),
                 "leasetoken": self.token, "data": data}
        # How the run goes may be left untold when it is time to stop, how it ended may not.
        check = self.check if kind in ("progress", "log", "output") else lambda: None
        status, answer = post(
            self.path + "/events", event, self.claimed["namespace"], "application/cloudevents+json", check
        )
        if status == 409 and answer["code"] == "StaleToken":
            self.lost.set()
        elif answer.get("canceling"):
            self.canceled.set()

    def beat(self):
        pause = min(self.claimed["leaseSeconds"] / 3, 20)
        while not self.done.wait(pause):
            asked = time.monotonic()
            status, answer = post(self.path + ":heartbeat", {"token": self.token}, self.claimed["namespace"])
            if status != 200:
                return self.lost.set()
            self.hold(asked)
            if answer["canceling"]:
                self.canceled.set()

    def check(self):
        if self.canceled.is_set() or self.lost.is_set() or hurry.is_set() or time.monotonic() > self.until:
            raise Stop

    def run(self):
        threading.Thread(target=self.beat, daemon=True).start()
        try:
            end, data = "succeeded", {"output": work(self.claimed, self.tell, self.check)}
        except Stop:
            end, data = ("canceled" if self.canceled.is_set() else "released"), None
        except Exception as error:  # whatever it is, it is the run's
            end, data = "failed", {"code": type(error).__name__, "message": str(error)}
        if not self.lost.is_set():
            self.tell(end, data)
        self.done.set()


def triggers(body):
    """A message holds a trigger, or several of one job: the first in full, id and number of the others."""
    first = json.loads(body)
    return first["namespace"], [(first["id"], first["n"]), *first.get("more", [])]


def serve(connection, runs):
    channel = connection.channel()
    # One queue for each priority. Asking for one message at a time takes no more from others than there are slots for.
    queues = [f"reveille.{lane}.{QUEUE}" for lane in ("high", "q", "low")]
    while not draining.is_set():
        runs[:] = [run for run in runs if run.is_alive()]
        got = None
        if len(runs) < SLOTS:
            got = next((got for got in map(channel.basic_get, queues) if got[0]), None)
        if got is None:
            connection.process_data_events(0.2)
            continue
        method, _, body = got
        namespace, several = triggers(body)
        is_settled = True
        for run_id, n in several:
            while len([run for run in runs if run.is_alive()]) >= SLOTS:
                connection.process_data_events(0.2)
            token = str(uuid.uuid4())  # the same for each try of this claim
            asked = time.monotonic()
            claim = {"n": n, "worker": NAME, "token": token}
            status, answer = post(f"/v1/workRequests/{run_id}:claim", claim, namespace)
            if status == 200:
                runs.append(Run(answer, token, asked))
                runs[-1].start()
            elif status not in (404, 409, 410):
                # Not what such a claim is answered with: what is wrong is here, or on the way, and not with the trigger.
                print(f"claim of {run_id}: {status} {answer}", flush=True)
                is_settled = False
            # Else another worker has it, it has ended, or it was a marker. There is nothing to do.
        if is_settled:
            channel.basic_ack(method.delivery_tag)
        else:
            channel.basic_nack(method.delivery_tag)  # back into the queue, for others
            connection.process_data_events(1)


def main():
    signal.signal(signal.SIGTERM, lambda *_: draining.set())
    signal.signal(signal.SIGINT, lambda *_: draining.set())
    runs = []
    while not draining.is_set():
        try:
            connection = pika.BlockingConnection(pika.URLParameters(BROKER))
            print(f"{NAME} serves {QUEUE}", flush=True)
            serve(connection, runs)
            connection.close()
        except pika.exceptions.AMQPError as error:
            # What it was handed and has not acknowledged goes to others; its runs go on.
            print(f"no broker: {error!r}; trying again", flush=True)
            draining.wait(1)
    threading.Timer(GRACE, hurry.set).start()
    for run in runs:
        run.join()
    os._exit(0)  # the timer is of no use any more


if __name__ == "__main__":
    main()
