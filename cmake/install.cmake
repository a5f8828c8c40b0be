# What `cmake --install` delivers: the shared library (component runtime), the headers, the pkg-config file and the CMake
# package (component development), and programs; `cpack` the first two.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/gptoss)
set(pkgconfig_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# Debug information is 33 of 35 MB, and stays in the build folder.
if(NOT CMAKE_BUILD_TYPE STREQUAL Debug)
  install(CODE "set(CMAKE_INSTALL_DO_STRIP TRUE)" COMPONENT runtime)
endif()
install(TARGETS gptoss EXPORT gptoss
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime NAMELINK_COMPONENT development
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
get_target_property(gptoss_type gptoss TYPE)
if(gptoss_type STREQUAL STATIC_LIBRARY AND NOT CMAKE_BUILD_TYPE STREQUAL Debug) # which CMake does not strip
  install(CODE "execute_process(COMMAND ${CMAKE_STRIP} --strip-debug
    \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_LIBDIR}/libgptoss.a\")" COMPONENT development)
endif()
# Programs, where they were built, find the library beside them. They are in none of the Debian packages.
set(programs gptoss-download gptoss-server)
if(WIN32)
  list(APPEND programs chat) # with the model that it has by default
  install(DIRECTORY nano/gptoss-nano DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/gptoss COMPONENT programs)
endif()
foreach(program ${programs})
  if(TARGET ${program})
    file(RELATIVE_PATH to_library /${CMAKE_INSTALL_BINDIR} /${CMAKE_INSTALL_LIBDIR})
    set_target_properties(${program} PROPERTIES INSTALL_RPATH "$ORIGIN/${to_library}")
    install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT programs OPTIONAL)
    if(WIN32)
      continue()
    endif()
    install(FILES docs/man/${program}.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT programs)
  endif()
endforeach()
if(TARGET gptoss-server AND NOT WIN32)
  configure_file(examples/server/gptoss-server.service.in gptoss-server.service @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/gptoss-server.service DESTINATION lib/systemd/system COMPONENT programs)
endif()
install(FILES include/gptoss.h include/gptoss.hpp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development)

install(EXPORT gptoss NAMESPACE gptoss:: FILE gptoss-targets.cmake DESTINATION ${cmake_dir} COMPONENT development)
configure_package_config_file(cmake/gptoss-config.cmake.in ${PROJECT_BINARY_DIR}/gptoss-config.cmake
  INSTALL_DESTINATION ${cmake_dir})
# The rule of gptoss.h: within a major version, later minor versions serve programs of earlier ones.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/gptoss-config-version.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${PROJECT_BINARY_DIR}/gptoss-config.cmake ${PROJECT_BINARY_DIR}/gptoss-config-version.cmake
  DESTINATION ${cmake_dir} COMPONENT development)

# Paths relative to the file itself: an installed tree can be moved.
file(RELATIVE_PATH pc_prefix /${pkgconfig_dir} /)
string(REGEX REPLACE "/$" "" pc_prefix "${pc_prefix}")
if(gptoss_type STREQUAL STATIC_LIBRARY)
  list(TRANSFORM CMAKE_CXX_IMPLICIT_LINK_LIBRARIES PREPEND -l OUTPUT_VARIABLE cxx_libraries)
  list(JOIN cxx_libraries " " cxx_libraries)
  set(pc_dependencies "Requires: libpcre2-8 zlib\nLibs: -L\${libdir} -lgptoss ${CMAKE_THREAD_LIBS_INIT} ${cxx_libraries}")
else()
  set(pc_dependencies "Libs: -L\${libdir} -lgptoss")
endif()
configure_file(cmake/gptoss.pc.in ${PROJECT_BINARY_DIR}/gptoss.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/gptoss.pc DESTINATION ${pkgconfig_dir} COMPONENT development)

set(runtime_package lib${PROJECT_NAME}${PROJECT_VERSION_MAJOR})
set(development_package lib${PROJECT_NAME}-dev)
foreach(component runtime development)
  install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/doc/${${component}_package} RENAME copyright
    COMPONENT ${component})
  install(FILES NOTICE DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/doc/${${component}_package} COMPONENT ${component})
endforeach()

# Debian packages, by `cpack` in the build directory. Configured with -DCMAKE_INSTALL_PREFIX=/usr, libraries go to the
# multiarch folder.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME lib${PROJECT_NAME})
set(CPACK_PACKAGE_VENDOR ${PROJECT_NAME})
set(CPACK_PACKAGE_CONTACT "libgptoss developers <libgptoss@localhost>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_COMPONENTS_ALL runtime development)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME ${runtime_package})
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY ">=")
# The loader is opened at run time, so that nothing of this fails without it.
set(CPACK_DEBIAN_RUNTIME_PACKAGE_RECOMMENDS "libvulkan1, mesa-vulkan-drivers | vulkan-icd")
set(CPACK_COMPONENT_RUNTIME_DESCRIPTION "${PROJECT_DESCRIPTION}: the shared library")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME ${development_package})
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS "${runtime_package} (= ${PROJECT_VERSION})")
set(CPACK_COMPONENT_DEVELOPMENT_DESCRIPTION "${PROJECT_DESCRIPTION}: headers, pkg-config file and CMake package")
include(CPack)
