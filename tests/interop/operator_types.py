"""Runs beside the operator's own types: reads documents from standard input, and prints what they make of them."""

import json
import sys

from cloudcoil.models.prometheus_operator import v1

found = [getattr(v1, one["kind"]).model_validate(one) for one in json.load(sys.stdin)]
json.dump([one.model_dump(by_alias=True, exclude_none=True, mode="json") for one in found], sys.stdout)
