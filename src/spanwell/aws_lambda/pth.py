"""What the layer's `.pth` file imports: a line of it cannot do more. A function starts whatever becomes of this."""

try:
    from spanwell.aws_lambda.start import begin

    begin()
except Exception as error:
    import sys

    sys.stderr.write(f"spanwell: nothing is traced: {type(error).__name__}: {error}\n")
