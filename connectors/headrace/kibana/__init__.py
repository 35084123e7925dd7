"""Dashboards as code: builds Kibana's saved objects and alert rules from sinks, checks and applies them."""
