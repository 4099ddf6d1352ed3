"""Pretrained text backbones, one file each, behind one shape: encoder, decoder, head."""
