"""SQLite's files, opened as a stranger's."""
