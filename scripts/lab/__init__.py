"""A Pangolin-like world in network namespaces, for the demo and for the lab tests."""
