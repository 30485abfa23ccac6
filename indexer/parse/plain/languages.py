"""Languages whose source is cut by lines, because no grammar of theirs comes with the extra."""

from typing import Final

from indexer.parse.base.outline import words

EXTENSIONS: Final = tuple(
    sorted(
        words(
            # Components of web pages, style sheets and templates.
            """
            .astro .svelte .vue
            .css .less .sass .scss .styl
            .ejs .erb .haml .hbs .j2 .jinja .jinja2 .liquid .mustache .njk .pug .slim .twig
            """
            # Programs.
            """
            .ada .adb .ads .agda .applescript .asm .awk .bas .cbl .cl .clj .cljc .cljs .cob .coffee
            .cr .cu .cuh .d .dart .dpr .el .elm .erl .ex .exs .f .f03 .f08 .f77 .f90 .f95 .for .fs
            .fsi .fsx .gd .glsl .groovy .hlsl .hrl .hs .idr .ino .jl .lean .lhs .lisp .lsp .lua .m
            .m4 .metal .ml .mli .mm .nim .pas .pde .php3 .phtml .pl .pm .pro .purs .pxd .pxi .pyx .r
            .re .res .rkt .s .sas .sbt .scm .sol .ss .sv .svh .swift .tcl .v .vb .vba .vbs .vhd
            .vhdl .vim .wat .wgsl .zig
            """
            # Shells, builds and deployments.
            """
            .bat .cmd .csh .fish .ksh .nu .ps1 .psd1 .psm1 .sed .zsh
            .am .ac .bazel .bzl .cmake .dockerfile .gn .gni .gradle .mak .make .mk .ninja .nix .star
            .bicep .cue .dhall .hcl .jsonnet .libsonnet .rego .tf .tfvars
            """
            # Queries, schemas and changes.
            """
            .cql .cypher .ddl .dml .gql .graphql .graphqls .pgsql .plsql .prisma .psql .sparql .sql
            .avdl .capnp .fbs .idl .proto .thrift
            .diff .patch
            """
        )
    )
)

NAMES: Final = words(
    """
    brewfile build.bazel cmakelists.txt containerfile dockerfile gemfile gnumakefile jenkinsfile
    justfile makefile podfile procfile rakefile vagrantfile workspace.bazel
    """
)
"""Whole names, in lower case, of files that are code by custom."""
