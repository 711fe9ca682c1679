"""Vectors and items in Milvus: in a file of Milvus Lite, on a server, or on a cluster."""
