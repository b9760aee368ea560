"""Google's operations client, unmodified, against the server of the first argument, with the key of the second."""

import sys
import time

import google.api_core
from google.api_core import exceptions, operation
from google.api_core.operations_v1 import AbstractOperationsClient
from google.api_core.operations_v1.transports.rest import OperationsRestTransport
from google.auth.api_key import Credentials
from google.protobuf import struct_pb2
from google.rpc import error_details_pb2
from start import start

base = sys.argv[1]
HTTP_OPTIONS = {
    "google.longrunning.Operations.ListOperations": [{"method": "get", "uri": "/v1/{name=operations}"}],
    "google.longrunning.Operations.GetOperation": [{"method": "get", "uri": "/v1/{name=operations/*}"}],
    "google.longrunning.Operations.DeleteOperation": [{"method": "delete", "uri": "/v1/{name=operations/*}"}],
    "google.longrunning.Operations.CancelOperation": [
        {"method": "post", "uri": "/v1/{name=operations/*}:cancel", "body": "*"}
    ],
}


def check(client, parent):
    def future(job):
        name = f"{parent}/{start(base, job)[0]['id']}"
        found = client.get_operation(name)
        assert found.name == name, found
        return operation.Operation(
            found,
            lambda **_: client.get_operation(name),
            lambda: client.cancel_operation(name),
            result_type=struct_pb2.Struct,
            metadata_type=struct_pb2.Struct,
        )

    good = future("good")
    assert good.result(timeout=60) is not None and good.metadata["status"] == "SUCCEEDED", good.operation
    bad = future("bad")
    error = bad.exception(timeout=60)
    assert isinstance(error, exceptions.GoogleAPICallError) and error.message, error
    info = error_details_pb2.ErrorInfo()
    assert bad.operation.error.details[0].Unpack(info) and info.reason == "EXIT_CODE", bad.operation
    held = future("hold")
    held.cancel()
    held.cancel()
    until = time.monotonic() + 60
    while not held.done() and time.monotonic() < until:
        time.sleep(0.1)
    assert held.cancelled(), held.operation
    listed = list(client.list_operations(parent if parent == "operations" else parent.removesuffix("/operations"), "", page_size=2))
    names = [one.name for one in listed]
    assert {good.operation.name, bad.operation.name, held.operation.name} <= set(names), names
    assert len(names) == len(set(names)), names
    try:
        client.get_operation(f"{parent}/unknown")
        raise SystemExit("what is unknown was found")
    except exceptions.NotFound as error:
        assert "does not exist" in error.message, error


def client(**options):
    transport = OperationsRestTransport(host=base, credentials=Credentials(sys.argv[2]), **options)
    return AbstractOperationsClient(transport=transport)


check(client(), "compartments/default/operations")
check(client(http_options=HTTP_OPTIONS), "operations")
print(f"google-api-core {google.api_core.version.__version__}: waited, canceled, paged, by either set of rules")
