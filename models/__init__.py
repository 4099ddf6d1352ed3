"""Mathematics only: networks, losses and objectives. Knows a `Batch`, nothing of files, ranks or logging."""
