"""What is fuzzed, by name, without importing any of it."""

NAMES = {
    "index": ("index_folders", "IndexFolders"),
    "models": ("model_folders", "ModelFolders"),
    "shards": ("shards", "Shards"),
    "tables": ("tables", "Tables"),
}
# What breaks promises, so that it can be shown that the fuzzer sees it
BREAKING = {"breaking": ("breaking", "Breaking")}
