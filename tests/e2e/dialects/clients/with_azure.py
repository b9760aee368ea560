"""Microsoft's pollers, unmodified, against the server of the first argument, with the key of the second."""

import sys
import uuid

import azure.core
from azure.core import PipelineClient
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import AzureKeyCredentialPolicy, RequestIdPolicy, RetryPolicy
from azure.core.polling import LROPoller
from azure.core.polling.base_polling import LROBasePolling
from azure.core.rest import HttpRequest
from azure.mgmt.core.polling.arm_polling import ARMPolling

base = sys.argv[1]
client = PipelineClient(base, policies=[RequestIdPolicy(), RetryPolicy(), AzureKeyCredentialPolicy(AzureKeyCredential(sys.argv[2]), "X-API-Key")])


def poll(job, method):
    request = HttpRequest("POST", f"{base}/v1/jobs/{job}/trigger", headers={"Operation-Id": str(uuid.uuid4())})
    started = client._pipeline.run(request)
    assert started.http_response.status_code == 202, started.http_response.text()
    return LROPoller(client, started, lambda answer: answer.http_response.json(), method)


for method in (LROBasePolling, ARMPolling):
    poller = poll("good", method(timeout=30))
    # Another process goes on with the same operation.
    token = poller.continuation_token()
    assert poller.result(60) == {"exitCode": 0}, poller.result()
    assert poller.status() == "SUCCEEDED", poller.status()
    other = LROPoller.from_continuation_token(
        method(timeout=30), token, client=client, deserialization_callback=lambda answer: answer.http_response.json()
    )
    assert other.result(60) == poller.result()
    try:
        poll("bad", method(timeout=30)).result(60)
        raise SystemExit("what failed has a result")
    except HttpResponseError as error:
        assert error.error and error.error.code == "ExitCode" and error.error.message, error
print(f"azure-core {azure.core.__version__}: polled to results and errors, by either poller")
