"""Oracle's clients, unmodified, against the server of the first argument, with the key of the second."""

import sys

import oci
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from start import start

base = sys.argv[1]
# Signed as ever: nobody looks at it here, as the service has a key of its own.
signing = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
config = {
    "user": "ocid1.user.oc1..aaaa",
    "tenancy": "ocid1.tenancy.oc1..aaaa",
    "fingerprint": ":".join(["00"] * 16),
    "region": "us-ashburn-1",
    "key_content": signing.decode(),
}


def client(kind):
    made = kind(config, service_endpoint=base)
    made.base_client.session.headers["X-API-Key"] = sys.argv[2]
    return made


core = client(oci.work_requests.WorkRequestClient)
canceling = client(oci.mysql.WorkRequestsClient)
newer = client(oci.governance_rules_control_plane.WorkRequestClient)

# A composite operation: the header of the start, then a waiter.
first, headers = start(base, "good", opc_retry_token="one")
again, _ = start(base, "good", opc_retry_token="one")
assert first["id"] == again["id"] == headers["opc-work-request-id"]
for api in (core, canceling, newer):
    waited = oci.wait_until(api, api.get_work_request(first["id"]), "status", "SUCCEEDED", max_wait_seconds=60)
    assert waited.data.percent_complete == 100 and waited.data.compartment_id == "default", waited.data
    assert waited.data.time_accepted <= waited.data.time_started <= waited.data.time_finished, waited.data
    assert waited.headers["opc-request-id"], waited.headers

failed, _ = start(base, "bad")
oci.wait_until(core, core.get_work_request(failed["id"]), "status", "FAILED", max_wait_seconds=60)
for api in (core, newer):
    for listed in (api.list_work_request_errors, api.list_work_request_logs):
        up = oci.pagination.list_call_get_all_results(listed, failed["id"], sort_order="ASC", limit=1).data
        down = oci.pagination.list_call_get_all_results(listed, failed["id"], sort_order="DESC", limit=1).data
        up, down = getattr(up, "items", up), getattr(down, "items", down)
        assert up and list(reversed(up)) == list(down) and all(entry.message for entry in up), (up, down)

held, _ = start(base, "hold")
oci.wait_until(core, core.get_work_request(held["id"]), "status", "IN_PROGRESS", max_wait_seconds=60)
assert canceling.cancel_work_request(held["id"]).status == 202
oci.wait_until(canceling, canceling.get_work_request(held["id"]), "status", "CANCELED", max_wait_seconds=60)
try:
    newer.cancel_work_request(held["id"])
    raise SystemExit("what has ended was canceled")
except oci.exceptions.ServiceError as error:
    assert (error.status, error.code) == (409, "Conflict") and error.message and error.request_id, error
try:
    core.get_work_request("unknown")
    raise SystemExit("what is unknown was found")
except oci.exceptions.ServiceError as error:
    assert (error.status, error.code) == (404, "NotFound") and error.message, error

ids = {first["id"], failed["id"], held["id"]}
for api in (core, canceling, newer):
    page = oci.pagination.list_call_get_all_results(api.list_work_requests, compartment_id="default", limit=1).data
    found = [summary.id for summary in getattr(page, "items", page)]
    assert ids <= set(found) and len(found) == len(set(found)), found
by_status = canceling.list_work_requests("default", sort_by="STATUS", sort_order="ASC").data
assert [summary.status for summary in by_status] == sorted(summary.status for summary in by_status)
of_failed = [summary.id for summary in newer.list_work_requests(compartment_id="default", status="FAILED").data.items]
assert failed["id"] in of_failed and not {first["id"], held["id"]} & set(of_failed), of_failed
print(f"oci {oci.__version__}: started, waited, paged, canceled")
