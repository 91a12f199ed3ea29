"""Pure decoders and algorithms: bytes and samples in, named values out, no I/O."""
