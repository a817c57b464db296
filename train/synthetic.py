def synthetic_faces(n, progress=None):
    raise ValueError
