"""The network: modality encoders, a temporal trunk, a causal response kernel, linear heads and decoders."""
