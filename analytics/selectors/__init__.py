"""What may be read. Dashboards read rollups only; the request log alone reads calls. The viewer comes first."""
