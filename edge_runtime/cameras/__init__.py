"""Frame sources: USB and Raspberry Pi cameras, network streams, files, standard input. open_source() opens any of them."""
