"""Looking after an index: figures, checks, duplicates, compacting."""
