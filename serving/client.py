"""Ask TensorFlow Serving, or `amzrec serve`, which answers the same: python client.py URL CUSTOMER … (AMZREC_TOKEN)."""

import json
import os
import sys
import urllib.request


def predict(server: str, inputs: dict, signature: str = "recommend") -> dict:
    """Answer the inputs by a signature of the model: columns in, columns out."""
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get("AMZREC_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    body = json.dumps({"signature_name": signature, "inputs": inputs}).encode()
    request = urllib.request.Request(f"{server}/v1/models/amzrec:predict", body, headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)["outputs"]


if __name__ == "__main__":
    server, *customers = sys.argv[1:]
    answer = predict(server, {"customer_id": customers, "k": 5, "exclude": [[""]]})
    for customer, count, titles in zip(customers, answer["count"], answer["title"], strict=True):
        print(customer, titles[:count])
