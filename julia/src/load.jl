# Models of a user's own: a Julia file defines them, and registers each in the catalogue.

"""
    register(name, M)

Put the model type `M` in the catalogue: Python's model of that name is built of it, as `M(grid)`
with the entries of its table as keywords, or as `AdjointGPU.from_table(M, grid, table)` says.
An `ArgumentError` where the package has a model of that name itself.
"""
function register(name::AbstractString, M::Type{<:Model})
    found = get(CATALOGUE, name, nothing)
    found === nothing || parentmodule(found) !== AdjointGPU || throw(ArgumentError(
        "model $(repr(name)) is one of AdjointGPU's own, expected another name"))
    CATALOGUE[name] = M
    return
end

"Files that registered models: the text of each when it was read, and the models."
const LOADED = Dict{String,Tuple{String,Dict{String,Any}}}()

"""
    load(path, text)

Evaluate the `text` of a user's file in a module of its own, unless it was evaluated before, and
have its models in the catalogue. They are newer than their caller, who reaches them by
`Base.invokelatest`. A `SourceError` where the file fails.
"""
function load(path::AbstractString, text::AbstractString)
    if !haskey(LOADED, path) || first(LOADED[path]) != text
        before = copy(CATALOGUE)
        try
            include_string(Module(:UserModels), text, path)
        catch error
            error isa LoadError || rethrow()
            throw(SourceError(path, error.line, error.error))
        end
        LOADED[path] = (text, filter(((name, M),) -> get(before, name, nothing) !== M, CATALOGUE))
    end
    merge!(CATALOGUE, last(LOADED[path]))   # another file may have used a name of its since
    return
end

"An error in a user's file, with its line."
struct SourceError <: Exception
    path::String
    line::Int
    cause::Any
end

function Base.showerror(io::IO, error::SourceError)
    lines = split(sprint(showerror, error.cause), '\n')
    # The parser's message ends with the place, drawn, and what it found there.
    said = error.cause isa Meta.ParseError ? "syntax error: " * last(split(last(lines), "── ")) : first(lines)
    print(io, error.path, ":", error.line, ": ", said)
end
