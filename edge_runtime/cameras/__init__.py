"""Frame sources behind one protocol: USB and Raspberry Pi cameras, network streams, files, standard input."""
