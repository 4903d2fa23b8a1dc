"""Runs beside Grafana's own types: reads a dashboard from standard input, and prints what they make of it."""

import json
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

register_default_plugins()  # panels and queries of every kind that Grafana brings
sys.stdout.write(JSONEncoder().encode(Dashboard.from_json(json.load(sys.stdin))))
