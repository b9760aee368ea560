"""Verifies posts with the library of the Standard Webhooks specification, and reads them as CloudEvents."""
import json
import sys
from datetime import datetime

from standardwebhooks import Webhook, WebhookVerificationError

posts = json.load(open(sys.argv[1]))
for post in posts:
    for secret in post["good"]:
        Webhook(secret).verify(post["body"], post["headers"])
    wrong = [(secret, post["body"]) for secret in post["bad"]]
    wrong += [(secret, post["body"] + " ") for secret in post["good"]]
    for secret, body in wrong:
        try:
            Webhook(secret).verify(body, post["headers"])
        except WebhookVerificationError:
            continue
        sys.exit(f"verified what is not good: {post}")
    signatures = post["headers"]["webhook-signature"].split(" ")
    assert len(signatures) == len(post["good"]), signatures
    assert all(one.count(",") == 1 and one.startswith("v1,") for one in signatures), signatures
    assert "." not in post["headers"]["webhook-id"], post
    assert post["contentType"] == "application/cloudevents+json", post
    event = json.loads(post["body"])
    for name in ("specversion", "id", "source", "type", "time", "datacontenttype"):
        assert isinstance(event[name], str) and event[name], (name, event)
    assert event["specversion"] == "1.0" and event["id"] == post["headers"]["webhook-id"], event
    assert datetime.fromisoformat(event["time"]).tzinfo is not None, event
    assert all(name.isalnum() and name == name.lower() for name in event), event
    assert isinstance(event["data"], dict), event
print(f"standardwebhooks: {len(posts)} posts verified")
