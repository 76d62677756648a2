"""A photograph of a digit -> the picture that MNIST's makers would have made of it.

Ink and ground are told apart (`ground`, `ink`), ruled lines taken away (`ruled_lines`), the digit's
own regions chosen (`components`), and these scaled and centred (`framing`); `preparation` joins
the steps and `report` says what each of them did.
"""
