"""The contract of an index on engines of other machines."""
