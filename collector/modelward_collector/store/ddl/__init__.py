"""The tables: numbered migrations (``NNNN_name.sql``), columns from the field table, views made anew at each start."""
