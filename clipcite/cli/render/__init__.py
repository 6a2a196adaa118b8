"""What commands print: tables, reports, progress. Imports `clipcite.client`."""
