"""The edge: makes Envoy's whole configuration from the contract and the addresses of the services."""
