"""Check a corpus for `d2tv verify`: manifest and keys, tables of the index, one shard, the contents of a tar."""
