"""The agent under a real systemd, in a virtual machine whose root filesystem it freezes.

``make vm`` as root (or ``python -m tests.vm [-k WORD]``) makes a Debian 12 image with debootstrap,
keeps it in ``_vm``, installs the working tree in it as the README says, and runs each scenario in a
machine of its own. qemu emulates the processor unless ``--kvm`` is given: of ``/dev/kvm`` alone one
cannot tell that it boots a kernel. It needs ``debootstrap``, ``qemu-system-x86_64``, ``qemu-img``
and ``mke2fs``. No machine has a network; the requests of Xen Orchestra come from its own loopback.
"""
