"""The parts of `d2tv verify`: manifest and keys, tables of the index, one shard, what a tar holds."""
