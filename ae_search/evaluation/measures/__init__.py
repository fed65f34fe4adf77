"""What is measured: labels of neighbours, altered copies, recall, single queries; beside it, baselines."""
