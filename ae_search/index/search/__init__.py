"""One query or many: the base, the changes since, filters, exact search and tuning."""
