"""Numbers below a float's full precision count as zero, where the processor can be told so.

Adam's moments of inputs that are seldom seen decay by a tenth a step and are such numbers, called
subnormal or denormal, after some 800 steps. Intel's processors compute with them in microcode: a
step of the network of ``config.yaml`` then takes half as long again. What such moments would add
to a weight is twenty powers of ten and more below the last digit of any that is not as small.

The C library documents ``fegetenv`` and ``fesetenv``
(https://www.gnu.org/software/libc/manual/html_node/Control-Functions.html); which bits of the
environment they are, the processors' manuals say. Threads and forked processes inherit them.
"""

from __future__ import annotations

import ctypes
import platform
import sys

_FENV_WORDS = 8  # 32-bit words of fenv_t, or more than it has
# By machine: the word that holds the control register, and the bits that flush to zero.
_REGISTERS = {
    "x86_64": (7, 0x8040),  # MXCSR: results (FTZ) and operands (DAZ)
    "aarch64": (0, 1 << 24),  # FPCR: FZ
}


def flush_denormals(flush: bool) -> bool:
    """Have this thread, and those that it starts, take subnormal numbers for zero, or not.

    Args:
        flush: whether to.

    Returns:
        whether this platform lets a process choose: Linux with glibc on x86-64 or aarch64.
    """
    word, bits = _REGISTERS.get(platform.machine(), (0, 0))
    if not bits or not sys.platform.startswith("linux"):
        return False
    try:
        library = ctypes.CDLL("libm.so.6")
    except OSError:  # another C library
        return False
    import numpy as np

    for kind in (np.float32, np.float64):
        _ = np.finfo(kind).smallest_subnormal  # it keeps this, and would warn of a zero later
    environment = (ctypes.c_uint32 * _FENV_WORDS)()
    if library.fegetenv(environment):
        return False
    environment[word] = environment[word] | bits if flush else environment[word] & ~bits
    return not library.fesetenv(environment)
