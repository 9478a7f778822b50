"""Grafana as code: the security team's dashboard, its alert rules and its data source.

``python -m dashboards`` writes the files that Grafana reads, ``python -m dashboards --check`` proves that they are what this code
makes.
"""
