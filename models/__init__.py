"""Define networks, losses and objectives: functions of a `Batch`, without files, ranks or logging."""
