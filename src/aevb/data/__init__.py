"""What models are fitted to: ready-made data sets, tables, batches and where they are placed."""
