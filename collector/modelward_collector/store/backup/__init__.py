"""Backup and restore of the embedded store: a folder of one tar file for each part of each table, and a manifest."""
