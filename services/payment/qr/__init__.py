"""QR payloads of the rails that people top up by: EMVCo merchant-presented mode, and pictures of it."""
