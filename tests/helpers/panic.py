"""What the code of extensions may raise."""


class Panic(BaseException):
    """No Exception, as what an extension module in Rust raises when it panics."""
