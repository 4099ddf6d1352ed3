"""Build what DeepSpeed compiles at its first start: `python -m tests.support.operators`.

`make setup` does. Before the tests that start ranks it is done again, where it is not there any more: a test that kills
a rank while it compiles would cost others the operator.
"""

from trainer.extensions import use_own_ninja, wait_for_builds


def main() -> None:
    """Load the all-reduce through shared memory, which every rank on a CPU uses."""
    use_own_ninja()
    wait_for_builds()
    from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder

    ShareMemCommBuilder().load(verbose=False)


if __name__ == "__main__":
    main()
