"""May the owner of a folder read a file of somebody else's that lies in it? The service, which is root, may anyway.

They need no right to read a file to link it there, or to move it there out of a folder that both may write to. So what
they may not read themselves must not leave through us.
"""

import os
import pwd
import stat
import struct

_ACL = "system.posix_acl_access"  # as acl(5) keeps it: a version, then tag, rights and number of each entry
_ENTRY = struct.Struct("<HHI")
_USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x02, 0x04, 0x08, 0x10, 0x20  # linux/posix_acl.h
_READ = 4


class Reader:
    """The owner of a folder, with the groups that the system knows them to be in.

    Of an owner whom it does not know, as in a container, nobody can tell the groups: then both a file's group and
    everybody else have to be allowed to read it. Where root owns the folder nobody hostile is there.
    """

    def __init__(self, uid: int) -> None:
        self._uid = uid
        self._groups: frozenset[int] | None = None
        try:
            user = pwd.getpwuid(uid)
        except KeyError:
            return
        self._groups = frozenset(os.getgrouplist(user.pw_name, user.pw_gid))

    def may_read(self, status: os.stat_result) -> bool:
        """Whether they may read this file, as far as its status tells; False for somebody else's with further names."""
        if self._uid in {0, status.st_uid}:
            return self._uid == status.st_uid or status.st_nlink == 1
        if status.st_nlink > 1:
            return False
        group, others = bool(status.st_mode & stat.S_IRGRP), bool(status.st_mode & stat.S_IROTH)
        if self._groups is None:
            return group and others
        return group if status.st_gid in self._groups else others

    def may_read_open(self, fd: int, status: os.stat_result) -> bool:
        """The same for an open file, by its access control list where it has one: acl(5), "Access check algorithm"."""
        # With an empty mask, the group's bits, Linux does not ask the list (acl_permission_check, fs/namei.c).
        if self._uid in {0, status.st_uid} or status.st_nlink > 1 or not status.st_mode & stat.S_IRWXG:
            return self.may_read(status)
        try:
            packed = os.getxattr(fd, _ACL)
        except OSError:  # it has none, or the file system knows none
            return self.may_read(status)
        entries = [*_ENTRY.iter_unpack(packed[4:])]
        mask = next((rights for tag, rights, _ in entries if tag == _MASK), _READ)
        named = [rights for tag, rights, number in entries if tag == _USER and number == self._uid]
        if named:
            return bool(named[0] & mask & _READ)
        if self._groups is None:
            return all(rights & _READ for tag, rights, _ in entries if tag in {_GROUP_OBJ, _GROUP, _MASK, _OTHER})
        theirs = [
            rights
            for tag, rights, number in entries
            if (tag == _GROUP_OBJ and status.st_gid in self._groups) or (tag == _GROUP and number in self._groups)
        ]
        if theirs:
            return any(rights & mask & _READ for rights in theirs)
        return any(rights & _READ for tag, rights, _ in entries if tag == _OTHER)
