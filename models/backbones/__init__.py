"""Wrap pretrained text backbones, one file each, behind one interface: encoder, decoder, head."""
