"""The process for people: the page, the HTTP API, metrics and health. It holds nothing; it asks the store
process.
"""
