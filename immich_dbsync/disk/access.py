"""May the owner of a folder read a file of somebody else's that lies in it? The service, which is root, may anyway.

They need no right to read a file to link it there, or to move it there, or a folder with it, out of one that both may
write to. So what they may not read themselves must not leave through us.
"""

import errno
import os
import pwd
import struct
from functools import cached_property

READ, SEARCH = 4, 1
"""Rights to a file, and to a folder for what lies in it by name; as in a mode."""

_ACL = "system.posix_acl_access"  # as acl(5) keeps it: a version, then tag, rights and number of each entry
_ENTRY = struct.Struct("<HHI")
_USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x02, 0x04, 0x08, 0x10, 0x20  # linux/posix_acl.h
_EVERYBODY = frozenset({_GROUP_OBJ, _GROUP, _MASK, _OTHER})
_NO_LIST = frozenset({errno.ENODATA, errno.ENOTSUP})


class Reader:
    """The owner of a folder, with the groups that the system knows them to be in; ``gid`` is the folder's group.

    Of an owner whom it does not know, as in a container, only the folder's own group is taken for one of theirs. To
    what is of another group both that and everybody else must have the right. Where root owns the folder nobody
    hostile is there.
    """

    def __init__(self, uid: int, gid: int) -> None:
        self.uid, self._gid = uid, gid

    @cached_property
    def _groups(self) -> frozenset[int] | None:
        """Asked for when there is a first file of somebody else's: a name server may be slow."""
        try:
            user = pwd.getpwuid(self.uid)
            return frozenset(os.getgrouplist(user.pw_name, user.pw_gid))
        except (KeyError, OSError):
            return None

    def owns(self, status: os.stat_result) -> bool:
        """Whether it is theirs, so that nothing has to be asked."""
        return self.uid in {0, status.st_uid}

    def may_read(self, status: os.stat_result) -> bool:
        """Whether they may read this file, as far as its status tells; False for somebody else's with further names."""
        if self.uid != status.st_uid and status.st_nlink > 1:
            return False
        return self.owns(status) or self._by_mode(status, READ)

    def may(self, right: int, fd: int, status: os.stat_result) -> bool:
        """Whether they have this right to what is open: acl(5), "Access check algorithm"."""
        # With an empty mask, the group's bits, Linux does not ask the list (acl_permission_check, fs/namei.c).
        if self.owns(status) or not status.st_mode & 0o070:
            return self.owns(status) or self._by_mode(status, right)
        try:
            packed = os.getxattr(fd, _ACL)
        except OSError as error:
            return error.errno in _NO_LIST and self._by_mode(status, right)
        return self._by_list([*_ENTRY.iter_unpack(packed[4:])], status, right)

    def _by_mode(self, status: os.stat_result, right: int) -> bool:
        group, others = bool(status.st_mode >> 3 & right), bool(status.st_mode & right)
        if self._groups is None and status.st_gid != self._gid:
            return group and others
        return group if self._groups is None or status.st_gid in self._groups else others

    def _by_list(self, entries: list[tuple[int, int, int]], status: os.stat_result, right: int) -> bool:
        mask = next((rights for tag, rights, _ in entries if tag == _MASK), right)
        named = [rights for tag, rights, number in entries if tag == _USER and number == self.uid]
        if named:
            return bool(named[0] & mask & right)
        groups = self._groups if self._groups is not None else {self._gid}
        theirs = [
            rights
            for tag, rights, number in entries
            if (tag == _GROUP_OBJ and status.st_gid in groups) or (tag == _GROUP and number in groups)
        ]
        if theirs:
            return any(rights & mask & right for rights in theirs)
        asked = _EVERYBODY if self._groups is None else {_OTHER}
        return all(rights & right for tag, rights, _ in entries if tag in asked)
