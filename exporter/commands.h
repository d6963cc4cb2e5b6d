// What the program does by its subcommands. Each returns the exit code.
#pragma once

#include "exporter/application/application_metrics.h"
#include "exporter/command_line.h"
#include "exporter/configuration.h"
#include "userspace/collector.h"

namespace pangolin {

// Collects and serves until SIGINT, SIGTERM or SIGHUP.
int serve(const CommandLine& command_line, const Configuration& configuration);

// Removes what exporters have left in the kernel to count on, below metrics.pin_dir.
int detach(const Configuration& configuration);

// Preflight: prints what this host offers and what is missing, with a hint for each. 1 when nothing could be
// counted on it.
int check(const CommandLine& command_line, const Configuration& configuration);

// Prints the catalogue as Markdown or JSON.
int print_catalogue(CatalogFormat format);

// A live table of sites in the terminal until SIGINT, SIGTERM or SIGHUP.
int top(const CommandLine& command_line, const Configuration& configuration);

// The collector that the configuration asks for.
CollectorOptions collector_options(const Configuration& configuration);

// The registry of applications' metrics that the configuration asks for.
ApplicationOptions application_options(const Configuration& configuration);

// Where to listen: the command line wins over the file.
std::vector<ListenAddress> listen_addresses(const CommandLine& command_line,
                                            const Configuration& configuration);

}  // namespace pangolin
