"""What is fuzzed, by name, without importing any of it."""

NAMES = {
    "index": ("index_folders", "IndexFolders"),
    "models": ("model_folders", "ModelFolders"),
    "shards": ("shards", "Shards"),
    "tables": ("tables", "Tables"),
}
