# The Debian package, of what `cmake --install` installs: scripts/package.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME pangolin-exporter)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Prometheus metrics of a Pangolin host, counted by the kernel")
set(CPACK_PACKAGE_DESCRIPTION "Counts what passes through Pangolin's WireGuard tunnels with eBPF programs, by site and resource,
and publishes it for Prometheus together with what applications push.")
set(CPACK_PACKAGE_CONTACT "The developers of pangolin_exporter")
set(CPACK_RESOURCE_FILE_LICENSE ${CMAKE_SOURCE_DIR}/LICENSE)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# For systemd-sysusers and systemd-tmpfiles.
set(CPACK_DEBIAN_PACKAGE_DEPENDS systemd)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${CMAKE_SOURCE_DIR}/scripts/debian/postinst ${CMAKE_SOURCE_DIR}/scripts/debian/prerm
                                       ${CMAKE_SOURCE_DIR}/scripts/debian/postrm)
include(CPack)
