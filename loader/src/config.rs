//! pipeline.yaml as checked types.
